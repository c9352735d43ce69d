"""The tables of the paper on semi-amortized VAEs (Kim et al. 2018, arXiv 1802.02550), rerun."""

from __future__ import annotations

from study.plan import Block, Study

#: The paper's: gradient steps with momentum 0.5, from the encoder's guess or the prior's.
STEPS = ("inner.optimizer=momentum", "inner.momentum=0.5", "inner.lr=0.3", "inner.samples=2",
         "inner.rtol=0")  # fmt: skip
TEN = (*STEPS, "inner.max_steps=10")
REFINED = {
    "vae_svi": ("experiment=vae_svi", *TEN),
    "vae_svi_kl": ("experiment=vae_svi_kl", *TEN),
    "savi_unrolled": ("experiment=savi_unrolled", *TEN),
    "savi_ift": ("experiment=savi_ift", "inner.samples=2"),
    "savi": ("experiment=savi",),
}
VAE = {"vae": ("experiment=vae",)}
#: From the prior, anew at every visit: twice as many steps, as they begin further away.
SVI = {"svi": ("experiment=svi", *STEPS, "inner.warm_start=false", "inner.max_steps=20",
               "inner.test_max_steps=20")}  # fmt: skip

#: Learned until validation no longer gains; what a table shows is of the best epoch.
SHARED = (
    "logger=csv", "callbacks.figures=false", "callbacks.keep_optimizer=false",
    "evaluation.importance_samples=500", "evaluation.gap_examples=0", "evaluation.ais_examples=0",
    "evaluation.autoencoder_steps=0",
)  # fmt: skip
LSTM = ("model=lstm", "model.latent_dim=2", "data=lstm_oracle", "data.batch_size=200",
        "trainer.max_epochs=40", "callbacks.early_stopping_patience=4")  # fmt: skip
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
                **VAE, **SVI, **REFINED,
            },
            seeds=3,
            marks=(10.0, 30.0, 100.0, 300.0),
        ),
        "lstm_oracle_known": Block(
            "Sequences of a random LSTM, known generative model",
            (*LSTM, "imports=[study.networks]", "model.decoder=lstm_oracle",
             "model.word_dropout=null"),
            {**VAE, **REFINED},
            seeds=3,
            marks=(10.0, 30.0, 100.0, 300.0),
        ),
        "digits": Block(
            "Binary digits",
            (*BINARY, "data=digits", "model.hidden=200", "model.latent_dim=16",
             "trainer.max_epochs=200", "callbacks.early_stopping_patience=20"),
            {**VAE, **SVI, **REFINED},
            seeds=3,
            marks=(3.0, 10.0, 30.0, 100.0),
            autoregression=True,
        ),
        "fashion_mnist": Block(
            "Binary Fashion-MNIST, 3,000 training images",
            (*BINARY, "data=fashion_mnist", "data.limit=3000", "model.hidden=500",
             "model.latent_dim=32", "trainer.max_epochs=60", "callbacks.early_stopping_patience=6"),
            {**VAE, **SVI, **REFINED},
            seeds=3,
            marks=(10.0, 30.0, 100.0, 300.0),
            autoregression=True,
        ),
    },
)  # fmt: skip
