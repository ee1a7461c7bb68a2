"""Read before every test: diffusers and transformers import torchvision, which has to be importable anywhere."""

from ldmkit.pretrained.torchvision_operators import declare_torchvision_operators

declare_torchvision_operators()
