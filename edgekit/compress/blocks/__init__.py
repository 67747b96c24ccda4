"""Block sparsity of linear layers (LPViT): whole tiles of their weights are zeros."""
