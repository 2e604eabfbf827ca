"""From images to features of a frozen backbone: adaptation of its normalisation, extraction, the feature store."""
