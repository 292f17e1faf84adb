"""Membership inference with the model in hand: rows it was trained on take fewer bits.

Yeom, Giacomelli, Fredrikson & Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to
Overfitting" (CSF 2018, arXiv 1709.01604), whose attack takes a row for a member where the model's
loss on it is low. A row that is hard for everybody has a high loss wherever it stands: what another
model, which knew neither side, takes for it is subtracted (Watson, Guo, Cormode & Sablayrolles, "On
the Importance of Difficulty Calibration in Membership Inference Attacks", ICLR 2022, arXiv
2111.08440).

Who holds the released table alone cannot make this attack; it bounds what those could learn who
are given the run. `Sampler.bits` gives the bits.

Departure from Watson et al.: one reference model, not the mean over several, unless the caller
gives that mean.
"""

import numpy as np

from raysynth.frames import Floats
from raysynth.risks import Risk, membership

NAME, CALIBRATED = "membership_model", "membership_model_calibrated"
NOTE = (
    "How well training rows are told from held-out ones by the model's own likelihood, for one who "
    "holds the run and not the table alone: 0.5 is not at all, 1 is always."
)
CALIBRATED_NOTE = (
    "The same with what a model that knew neither takes for each row subtracted, so that rows hard "
    "for everybody do not count."
)


def attack_with(
    members_bits: Floats,
    others_bits: Floats,
    members_reference: Floats | None = None,
    others_reference: Floats | None = None,
) -> list[Risk]:
    """The risk of a model's bits (M,) of members and (N,) of others; or those of both attacks.

    The second is made where a reference model's bits of the same rows are given, of both sides.
    Infinite bits, of rows that the model never gives, count as more than any others. Raises
    `ValueError` for NaN, and for a reference of other rows.
    """
    found = [membership(NAME, *_scores(members_bits, others_bits), NOTE)]
    if members_reference is None or others_reference is None:
        return found
    for own, reference in ((members_bits, members_reference), (others_bits, others_reference)):
        if own.shape != reference.shape:
            raise ValueError(
                f"the reference has bits of {len(reference)} rows, the model of {len(own)}; "
                "measure the same rows by both"
            )
    members, others = _scores(members_bits, others_bits)
    usual = _scores(members_reference, others_reference)
    sides = (members - usual[0], others - usual[1])
    return [*found, membership(CALIBRATED, *sides, CALIBRATED_NOTE)]


def _scores(members: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Bits with their sign turned, infinite ones one beyond the finite."""
    both = -np.concatenate([members, others]).astype(np.float64)
    if np.isnan(both).any():
        raise ValueError("bits are NaN: the model is broken; train it again")
    finite = both[np.isfinite(both)]
    low, high = (finite.min() - 1, finite.max() + 1) if len(finite) else (-1.0, 1.0)
    both = np.clip(both, low, high)
    return both[: len(members)], both[len(members) :]
