"""The recipe of a classifier of a few convolutions, for tests."""

RECIPE = """
name = "small-classifier"
family = "inverted-residual"
summary = "A small classifier for tests"
source = "tests"
parameters = 902

[architecture]
stem = 8
blocks = [[3, 0, 8, 1, 1], [5, 2, 8, 1, 1], [3, 2, 12, 2, 1]]
head = 0
classes = 5
activation = "relu6"

[weights]

[image]
height = 16
width = 20
stride = 1
order = "RGB"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]

[image.logits]
classes = 5
"""
