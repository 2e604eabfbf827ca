"""A backbone with a head: images in, logits out."""

from torch import Tensor, nn


class Classifier(nn.Module):
    """What is fine-tuned, exported and predicted with."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, S, S) to logits (B, C)."""
        # float32 whatever the features are computed in: a head is small, and its margins matter.
        logits: Tensor = self.head(self.features(images).float())
        return logits
