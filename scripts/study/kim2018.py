"""The tables of the paper on semi-amortized VAEs (Kim et al. 2018, arXiv 1802.02550), rerun."""

from __future__ import annotations

from study.plan import Block, Column, Study, Words

VAE = {"vae": ("experiment=vae",)}


def refined(lr: float, samples: int) -> dict[str, Words]:
    """Those that refine, by gradient steps with momentum 0.5 (but those of savi's own), by name.

    The noise of a solve is drawn once. With too few samples and too long steps the variances fit
    that noise, and the refined bound is worse than the encoder's.
    """
    steps = ("inner.optimizer=momentum", "inner.momentum=0.5", f"inner.lr={lr}",
             f"inner.samples={samples}", "inner.rtol=0", "inner.max_steps=10")  # fmt: skip
    return {
        # A training example starts where its last visit ended, others at the prior.
        "svi": ("experiment=svi", *steps, "inner.test_max_steps=40"),
        "vae_svi": ("experiment=vae_svi", *steps),
        "vae_svi_kl": ("experiment=vae_svi_kl", *steps),
        "savi_unrolled": ("experiment=savi_unrolled", *steps),
        "savi_ift": ("experiment=savi_ift", f"inner.samples={samples}"),
        "savi": ("experiment=savi",),
    }


NLL = "−log p(x)"
COLUMNS = (
    Column(f"{NLL} ≤", "test/elbo", -1.0),
    Column("reconstruction", "test/reconstruction", -1.0),
    Column("KL", "test/kl"),
    Column(NLL, "test/nll"),
)
#: Learned until validation no longer gains; what a table shows is of the best epoch.
SHARED = (
    "logger=csv", "callbacks.figures=false", "callbacks.keep_optimizer=false",
    "evaluation.importance_samples=500", "evaluation.gap_examples=0", "evaluation.ais_examples=0",
    "evaluation.autoencoder_steps=0",
)  # fmt: skip
LSTM = ("model=lstm", "model.latent_dim=2", "data=lstm_oracle", "data.batch_size=200",
        "trainer.max_epochs=40", "callbacks.early_stopping_patience=4")  # fmt: skip
OF_SEQUENCES = {**VAE, **refined(0.1, 2)}
OF_IMAGES = {**VAE, **refined(0.03, 4)}
BINARY = ("model.likelihood=bernoulli", "data.binarise=static")

KIM = Study(
    SHARED,
    {
        "lstm_oracle": Block(
            "Sequences of a random LSTM, learned generative model",
            LSTM,
            {
                "language_model": ("experiment=vae", "imports=[study.networks]",
                                        "model.decoder=lstm_without_code"),
                **OF_SEQUENCES,
            },
            COLUMNS,
            seeds=3,
            marks=(10.0, 30.0, 100.0, 300.0),
            references=("truth",),
        ),
        "lstm_oracle_known": Block(
            "Sequences of a random LSTM, known generative model",
            (*LSTM, "imports=[study.networks]", "model.decoder=lstm_oracle",
             "model.word_dropout=null"),
            {name: own for name, own in OF_SEQUENCES.items() if name != "svi"},
            COLUMNS,
            seeds=3,
            marks=(10.0, 30.0, 100.0, 300.0),
            references=("truth",),
        ),
        "digits": Block(
            "Binary digits",
            (*BINARY, "data=digits", "model.hidden=200", "model.latent_dim=16",
             "trainer.max_epochs=400", "callbacks.early_stopping_patience=20"),
            OF_IMAGES,
            COLUMNS,
            seeds=3,
            marks=(3.0, 10.0, 30.0, 100.0),
            references=("autoregression",),
        ),
        "fashion_mnist": Block(
            "Binary Fashion-MNIST, 1,000 training images",
            (*BINARY, "data=fashion_mnist", "data.limit=1000", "model.hidden=200",
             "model.latent_dim=16", "trainer.max_epochs=200",
             "callbacks.early_stopping_patience=10"),
            OF_IMAGES,
            COLUMNS,
            seeds=3,
            marks=(10.0, 30.0, 100.0, 300.0),
            references=("autoregression",),
        ),
    },
)  # fmt: skip
