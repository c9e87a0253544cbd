"""Unlearning methods by name; to add one, write a file here and a line in `METHODS`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mixunlearn.lazy import exporter
from mixunlearn.plugins import registry

if TYPE_CHECKING:
    from mixunlearn.methods.base import Context, Method

# Each is imported on first use, so that names can be checked without PyTorch.
METHODS: Mapping[str, type["Method"]] = registry(
    {
        "amnesiac": "mixunlearn.methods.amnesiac:Amnesiac",
        "amun": "mixunlearn.methods.amun:Amun",
        "ascent": "mixunlearn.methods.ascent:Ascent",
        "bad_teacher": "mixunlearn.methods.bad_teacher:BadTeacher",
        "boundary": "mixunlearn.methods.boundary:Boundary",
        "cf_k": "mixunlearn.methods.cf_k:CFk",
        "cfw": "mixunlearn.methods.cfw:ConfuseFinetuneWeaken",
        "ct": "mixunlearn.methods.ct:ConvolutionTranspose",
        "delete": "mixunlearn.methods.delete:Delete",
        "dsmixup": "mixunlearn.methods.dsmixup:DSMixup",
        "esc": "mixunlearn.methods.esc:ErasingSpaceConcept",
        "eu_k": "mixunlearn.methods.eu_k:EUk",
        "fcs": "mixunlearn.methods.fcs:ForgetContrastStrengthen",
        "finetune": "mixunlearn.methods.finetune:Finetune",
        "fisher": "mixunlearn.methods.fisher:Fisher",
        "gli": "mixunlearn.methods.gli:GLI",
        "influence": "mixunlearn.methods.influence:Influence",
        "jit": "mixunlearn.methods.jit:JustInTime",
        "kde": "mixunlearn.methods.kde:KnowledgeDistillationEntropy",
        "l1_sparse": "mixunlearn.methods.l1_sparse:L1Sparse",
        "l2ul": "mixunlearn.methods.l2ul:LearningToUnlearn",
        "l_mix": "mixunlearn.methods.l_mix:LMix",
        "laf": "mixunlearn.methods.laf:Laf",
        "laf_r": "mixunlearn.methods.laf_r:LafR",
        "lotus": "mixunlearn.methods.lotus:Lotus",
        "mixunlearn": "mixunlearn.methods.mixunlearn:MixUnlearn",
        "msg": "mixunlearn.methods.msg:MaskedSmallGradients",
        "mu_mis": "mixunlearn.methods.mu_mis:MuMis",
        "neggrad": "mixunlearn.methods.neggrad:NegGrad",
        "original": "mixunlearn.methods.original:Original",
        "prmq": "mixunlearn.methods.prmq:PruneReinitializeMatchQuantize",
        "rand_label_agnostic": "mixunlearn.methods.rand_label_agnostic:RandLabelAgnostic",
        "random_label": "mixunlearn.methods.random_label:RandomLabel",
        "retrain": "mixunlearn.methods.retrain:Retrain",
        "rni": "mixunlearn.methods.rni:RepeatedNoiseInjection",
        "rum": "mixunlearn.methods.rum:RUM",
        "salun": "mixunlearn.methods.salun:SalUn",
        "scrub": "mixunlearn.methods.scrub:Scrub",
        "sfr_on": "mixunlearn.methods.sfr_on:SfrOn",
        "sisa": "mixunlearn.methods.sisa:SISA",
        "ssd": "mixunlearn.methods.ssd:SSD",
        "unroll": "mixunlearn.methods.unroll:Unroll",
        "unsir": "mixunlearn.methods.unsir:UNSIR",
    },
    "mixunlearn.methods",
)

__all__ = ["METHODS", "Context", "Method"]

if not TYPE_CHECKING:
    __getattr__ = exporter(__name__, dict.fromkeys(("Context", "Method"), f"{__name__}.base"))
