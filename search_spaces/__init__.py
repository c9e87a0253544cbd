"""Search spaces by method; to add one, write a file here and a line in `SPACES`."""

from collections.abc import Callable, Mapping, Sequence

from mixunlearn.plugins import extended
from search_spaces import (
    ascent,
    bad_teacher,
    boundary,
    cf_k,
    ct,
    dsmixup,
    eu_k,
    finetune,
    fisher,
    gli,
    influence,
    l1_sparse,
    l_mix,
    laf,
    laf_r,
    mixunlearn,
    msg,
    mu_mis,
    neggrad,
    original,
    rand_label_agnostic,
    random_label,
    retrain,
    salun,
    scrub,
    sisa,
    ssd,
    unroll,
    unsir,
)
from search_spaces.space import Choice, Float, Int, Space

SPACES: Mapping[str, Callable[[Sequence[str], str], Space]] = extended(
    {
        "ascent": ascent.space,
        "bad_teacher": bad_teacher.space,
        "boundary": boundary.space,
        "cf_k": cf_k.space,
        "ct": ct.space,
        "dsmixup": dsmixup.space,
        "eu_k": eu_k.space,
        "finetune": finetune.space,
        "fisher": fisher.space,
        "gli": gli.space,
        "influence": influence.space,
        "l1_sparse": l1_sparse.space,
        "l_mix": l_mix.space,
        "laf": laf.space,
        "laf_r": laf_r.space,
        "mixunlearn": mixunlearn.space,
        "msg": msg.space,
        "mu_mis": mu_mis.space,
        "neggrad": neggrad.space,
        "original": original.space,
        "rand_label_agnostic": rand_label_agnostic.space,
        "random_label": random_label.space,
        "retrain": retrain.space,
        "salun": salun.space,
        "scrub": scrub.space,
        "sisa": sisa.space,
        "ssd": ssd.space,
        "unroll": unroll.space,
        "unsir": unsir.space,
    },
    "mixunlearn.search_spaces",
)

__all__ = ["SPACES", "Choice", "Float", "Int", "Space"]
