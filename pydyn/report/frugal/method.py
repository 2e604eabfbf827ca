"""What the study `frugal` compares, in words."""

from pydyn.config.frugal import FrugalStudy, Heads

EXPLANATION = (
    "Proposed: the backbone's batch normalisation is adapted to the training images without changing a weight; features of all "
    "images are extracted once; a redesigned head (linear, batch normalisation, ReLU, dropout, linear) is trained on them with a "
    "loss that weighs ambiguous images more, by {weight}, the margin being the difference of the two largest probabilities. The "
    "source gives no formula: this one is ours. {rival} the validation images; the test images are looked at once."
)
RIVAL = (
    "The rival trains the whole network{images}. Both see the same images, stop by validation loss, weigh classes alike and "
    "choose their rates on"
)
NO_RIVAL = "Training stops by validation loss, and its rates are chosen on"


def explanation(study: FrugalStudy) -> str:
    """The method as it is configured, and its rival."""
    tuned = study.fine_tuning
    images = " on augmented images" if tuned and tuned.augmentation != "none" else ""
    rival = RIVAL.format(images=images) if tuned else NO_RIVAL
    return EXPLANATION.format(weight=_weight(study.heads), rival=rival)


def _weight(heads: Heads) -> str:
    """The ambiguity weight with its numbers, and what the loss is divided by if not as usual."""
    weight = f"1 + λ (1 − margin)^κ with λ = {heads.strength:g} and κ = {heads.power:g}"
    if heads.threshold is not None:
        weight = f"1 + λ where the margin is below τ, with λ = {heads.strength:g} and τ = {heads.threshold:g}"
    if heads.normalisation == "weighted_mean":
        weight += " (the sum of the losses so weighted is divided by that of the weights)"
    return weight
