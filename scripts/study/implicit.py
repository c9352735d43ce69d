"""Whether implicit gradients pay for semi-amortised VAEs: runs that end by epochs or by the clock.

The blocks are of data that cost little, digits and linear Gaussian data; the races are of
Fashion-MNIST.
"""

from __future__ import annotations

from study.plan import Block, Column, Race, Study, Words
from study.references import GAMMA, LATENT

#: Direct or implicit, with everything else equal: the encoder learns by its own ELBO alone, so that
#: nothing but the gradient of the decoder differs.
OWN_ELBO = "encoder_loss=elbo_at_init"
PROXIMAL = ("experiment=savi_ift", OWN_ELBO)
LAPLACE = ("experiment=laplace_ift", OWN_ELBO)
STOP, UNROLLED = "gradient=stop", "gradient=unrolled"
ONE_STEP = "inner.max_steps=1"
THROUGH = "encoder_loss=through"

METHODS: dict[str, Words] = {
    "vae": ("experiment=vae",),
    "vae_fast": ("experiment=vae", "optimizer.lr=3e-3"),
    "vae_decay": ("experiment=vae", "optimizer.weight_decay=0.1"),
    "vae_warmup": ("experiment=vae", "model.kl.warmup_steps=500"),
    "vae_full": ("experiment=vae", "posterior=full_gaussian"),
    "vae_refined": ("experiment=vae", "inner=elbo", "inner.max_steps=0", "inner.test_max_steps=5"),
    "vae_aggressive": ("experiment=vae", "callbacks.aggressive_encoder_steps=20"),
    "svi": ("experiment=svi",),
    "vae_svi": ("experiment=vae_svi",),
    "vae_svi_kl": ("experiment=vae_svi_kl",),
    "savi": ("experiment=savi",),
    "savi_unrolled_5": ("experiment=savi_unrolled", "inner.max_steps=5"),
    "savi_unrolled_10": ("experiment=savi_unrolled",),
    "savi_unrolled_20": ("experiment=savi_unrolled", "inner.max_steps=20"),
    "savi_ift_0.1": ("experiment=savi_ift", "inner.rho=0.1"),
    "savi_ift": ("experiment=savi_ift",),
    "savi_ift_10": ("experiment=savi_ift", "inner.rho=10"),
    "trust_region": ("experiment=savi_ift", "inner=trust_region"),
    "laplace_ift": ("experiment=laplace_ift",),
    "laplace_stop": ("experiment=laplace_ift", STOP),
    "vlae_1": ("experiment=vlae", ONE_STEP),
    "vlae": ("experiment=vlae",),
    "vlae_stop": ("experiment=vlae", STOP, "encoder_loss=objective_at_init",
                  "posterior.covariance_gradient=stop"),
}  # fmt: skip
DIRECT: dict[str, Words] = {
    "vae": METHODS["vae"],
    "proximal_ift": PROXIMAL,
    "proximal_unrolled": (*PROXIMAL, UNROLLED),
    "proximal_stop": (*PROXIMAL, STOP),
    "proximal_1_ift": (*PROXIMAL, ONE_STEP),
    "proximal_1_stop": (*PROXIMAL, ONE_STEP, STOP),
    "laplace_ift": LAPLACE,
    "laplace_stop": (*LAPLACE, STOP),
    "laplace_1_ift": (*LAPLACE, ONE_STEP),
    "laplace_1_stop": (*LAPLACE, ONE_STEP, STOP),
}
ENCODER: dict[str, Words] = {
    "vae": METHODS["vae"],
    **{f"unrolled_{k}": ("experiment=savi_unrolled", f"inner.max_steps={k}") for k in (1, 5, 20)},
    **{f"ift_{rho:g}": ("experiment=savi_ift", THROUGH, f"inner.rho={rho:g}")
       for rho in (0.1, 1, 10, 100)},
    "proximal_unrolled": ("experiment=savi_ift", THROUGH, UNROLLED),
    "savi_ift": METHODS["savi_ift"],
}  # fmt: skip
RESIDUAL = ("model.decoder=residual_mlp", "model.encoder=residual_mlp")
DEEP: dict[str, Words] = {
    "vae": (*METHODS["vae"], "evaluation.autoencoder_steps=2000"),
    "vae_warmup": METHODS["vae_warmup"],
    "vae_residual": (*METHODS["vae"], *RESIDUAL),
    "savi": METHODS["savi"],
    "savi_ift": METHODS["savi_ift"],
}
#: Variants of the VAE that the data are too simple to tell apart.
NOT_LINEAR = ("vae_aggressive", "vae_fast", "vae_decay", "vae_warmup", "vae_full")
LINEAR = {name: words for name, words in METHODS.items() if name not in NOT_LINEAR}

LOG_LIKELIHOOD = Column("log p(x)", "test/nll", -1.0, digits=1)
ELBO = Column("ELBO", "test/elbo", digits=1)
AMORTISATION = Column("amortisation gap", "test/gap/amortization", digits=1)
IN_TRAINING = Column("of training examples", "train/gap/amortization", digits=1)
APPROXIMATION = Column("approximation gap", "test/gap/approximation", digits=1)
ACTIVE = Column("active units", "test/active_units", digits=1)
ERROR = Column("squared error per dimension", "test/collapse/error", digits=4)
OF_AUTOENCODER = Column("of an autoencoder", "test/collapse/autoencoder_error", digits=4)
REFINED = Column("refinement gains", "inner/improvement", digits=1)
FAILED = tuple(
    Column(f"conditions fail, % in third {third}", "ift/failures", 100.0, digits=1, third=third)
    for third in (1, 2, 3)
)
CURVATURE = Column("least curvature", "ift/min_curvature")
BOUND = Column("error bound", "ift/error_bound", digits=3)
BITS = Column("bits per dimension", "test/bits_per_dim", digits=3)
MEMORY = Column("peak MB", "cost/peak_memory_mb", digits=0)
GAPS = (LOG_LIKELIHOOD, ELBO, AMORTISATION, IN_TRAINING, APPROXIMATION)
AT_MARKS = Column("ELBO of validation", "val/elbo", digits=1)

DIGITS = ("data=digits", "trainer.max_epochs=300", "callbacks.early_stopping_patience=30")
SHARED = (
    "logger=csv", "callbacks.figures=false", "callbacks.keep_optimizer=false",
    "evaluation.gap_examples=64", "evaluation.ais_examples=0", "evaluation.autoencoder_steps=0",
)  # fmt: skip

#: What races; with more images there is time for fewer.
REFINING = "savi,laplace,laplace_ift,vlae_stop,vlae_1,vlae,sa_vae"
FEWEST = f"vae,vae_slow,vae_slow_decay,vae_slower_decay,vae_warmup,vae_full,{REFINING}"
SMALL = f"vae,vae_slow,vae_decay,vae_warmup,vae_full,{REFINING}"
MIDDLE = "vae,vae_decay,vae_warmup,vae_cosine,savi,laplace,laplace_ift,vlae_1,sa_vae"
LARGE = "vae_cosine,savi_cosine,laplace_cosine,laplace_ift_cosine"
LARGEST = "vae_cosine,savi_cosine,vae_cosine_laplace"


def race(picture: str, size: int, methods: str, marks: str, *own: str, seeds: int = 3) -> Race:
    """Of so many images of Fashion-MNIST; the last mark ends it."""
    words = (
        f"sizes=[{size}]", f"methods=[{methods}]", f"marks=[{marks}]",
        f"budget={marks.split(',')[-1]}", f"examples={min(size, 512)}", *own,
    )  # fmt: skip
    return Race(picture, words, seeds)


RACES = {
    "race_300": race("by_size", 300, FEWEST, "1.5,2,2.5,3,4,5,6,8,10,12.5,15,20,30"),
    "race_1000": race("by_size", 1_000, SMALL, "5,6,7,8,9,10,11,12.5,15,20,30,60"),
    "race_3000": race("by_size", 3_000, MIDDLE, "10,15,20,30,45,60,90,120"),
    "race_10000": race("by_size", 10_000, LARGE, "30,60,100,150,200,300"),
    "race_50000": race("by_size", 50_000, LARGEST, "60,150,300,420,600"),
    # As VLAE was published (Park et al. 2019): 50 latents, two layers of 500.
    "fifty_1000": race(
        "fifty",
        1_000,
        "vae,vae_decay,vae_warmup,savi,laplace_ift,vlae_1,vlae",
        "5,8,10,12,15,20,30,60",
        "latent_dim=50",
    ),
    "fifty_50000": race(
        "fifty",
        50_000,
        "vae_cosine,vae_warmup_cosine,savi_cosine,savi_warmup_cosine,vlae",
        "60,150,300,600",
        "latent_dim=50",
    ),
}

IMPLICIT = Study(
    SHARED,
    {
        "digits": Block(
            "Digits, every method",
            DIGITS, METHODS, (*GAPS, REFINED, ACTIVE, BITS, MEMORY),
            seeds=5, marks=(3.0, 10.0, 30.0, 100.0), at_marks=AT_MARKS,
            rivals=(("savi_ift", "savi"), ("savi_ift", "savi_unrolled_10"), ("vlae_1", "savi"),
                    ("savi", "vae_refined"), ("vlae_1", "vae_full"), ("vlae_1", "vlae"),
                    ("vlae", "vlae_stop"), ("laplace_ift", "laplace_stop")),
        ),
        "direct": Block(
            "Digits, implicit and direct gradients with everything else equal",
            DIGITS, DIRECT, (LOG_LIKELIHOOD, ELBO, AMORTISATION, *FAILED, CURVATURE, BOUND),
            seeds=3,
            rivals=(("proximal_ift", "proximal_stop"), ("proximal_ift", "proximal_unrolled"),
                    ("proximal_1_ift", "proximal_1_stop"), ("laplace_ift", "laplace_stop"),
                    ("laplace_1_ift", "laplace_1_stop"), ("laplace_1_ift", "laplace_stop"),
                    ("laplace_1_ift", "laplace_ift")),
        ),
        "encoder": Block(
            "Digits, encoders that learn from the refined posterior alone",
            DIGITS, ENCODER, (*GAPS, REFINED),
            seeds=3,
            rivals=(("ift_1", "proximal_unrolled"), ("ift_1", "savi_ift")),
        ),
        **{
            f"depth_{depth}": Block(
                f"Digits, ReLU networks of {depth} hidden layers",
                (*DIGITS, "model.activation=relu", f"model.depth={depth}"),
                DEEP, (LOG_LIKELIHOOD, ELBO, ERROR, OF_AUTOENCODER, ACTIVE),
                seeds=3, rivals=(("savi", "vae_warmup"), ("savi_ift", "savi")),
            )
            for depth in (2, 4, 8)
        },
        "linear": Block(
            "Data of a linear Gaussian model",
            ("data=linear_gaussian", "model=linear", f"model.latent_dim={LATENT}",
             "model.gamma.mode=fixed", f"model.gamma.value={GAMMA}", "model.samples=4",
             "optimizer.lr=1e-2", "optimizer.schedule=cosine", "trainer.max_epochs=20"),
            LINEAR,
            tuple(column._replace(digits=2)
                  for column in (LOG_LIKELIHOOD, ELBO, AMORTISATION, APPROXIMATION, ACTIVE)),
            seeds=3,
            references=("ppca",),
            rivals=tuple((name, "ppca") for name in LINEAR),
        ),
    },
    races=RACES,
)  # fmt: skip
