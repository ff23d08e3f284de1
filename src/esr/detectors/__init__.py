"""Off-topic detectors and the random sets that control for them."""
