"""Unlearning methods by name; a new one is a file here and a line in `METHODS`."""

from collections.abc import Mapping

from mixunlearn.methods.ascent import Ascent
from mixunlearn.methods.bad_teacher import BadTeacher
from mixunlearn.methods.base import Context, Method
from mixunlearn.methods.boundary import Boundary
from mixunlearn.methods.cf_k import CFk
from mixunlearn.methods.ct import ConvolutionTranspose
from mixunlearn.methods.dsmixup import DSMixup
from mixunlearn.methods.eu_k import EUk
from mixunlearn.methods.finetune import Finetune
from mixunlearn.methods.fisher import Fisher
from mixunlearn.methods.gli import GLI
from mixunlearn.methods.influence import Influence
from mixunlearn.methods.l1_sparse import L1Sparse
from mixunlearn.methods.l_mix import LMix
from mixunlearn.methods.laf import Laf
from mixunlearn.methods.laf_r import LafR
from mixunlearn.methods.mixunlearn import MixUnlearn
from mixunlearn.methods.msg import MaskedSmallGradients
from mixunlearn.methods.mu_mis import MuMis
from mixunlearn.methods.neggrad import NegGrad
from mixunlearn.methods.original import Original
from mixunlearn.methods.rand_label_agnostic import RandLabelAgnostic
from mixunlearn.methods.random_label import RandomLabel
from mixunlearn.methods.retrain import Retrain
from mixunlearn.methods.salun import SalUn
from mixunlearn.methods.scrub import Scrub
from mixunlearn.methods.sisa import SISA
from mixunlearn.methods.ssd import SSD
from mixunlearn.methods.unroll import Unroll
from mixunlearn.methods.unsir import UNSIR
from mixunlearn.plugins import extended

METHODS: Mapping[str, type[Method]] = extended(
    {
        "ascent": Ascent,
        "bad_teacher": BadTeacher,
        "boundary": Boundary,
        "cf_k": CFk,
        "ct": ConvolutionTranspose,
        "dsmixup": DSMixup,
        "eu_k": EUk,
        "finetune": Finetune,
        "fisher": Fisher,
        "gli": GLI,
        "influence": Influence,
        "l1_sparse": L1Sparse,
        "l_mix": LMix,
        "laf": Laf,
        "laf_r": LafR,
        "mixunlearn": MixUnlearn,
        "msg": MaskedSmallGradients,
        "mu_mis": MuMis,
        "neggrad": NegGrad,
        "original": Original,
        "rand_label_agnostic": RandLabelAgnostic,
        "random_label": RandomLabel,
        "retrain": Retrain,
        "salun": SalUn,
        "scrub": Scrub,
        "sisa": SISA,
        "ssd": SSD,
        "unroll": Unroll,
        "unsir": UNSIR,
    },
    "mixunlearn.methods",
)

__all__ = ["METHODS", "Context", "Method"]
