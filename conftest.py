"""Read before every test: diffusers and transformers import torchvision, which must be importable beside any torch."""

from ldmkit.torchvision_operators import declare_torchvision_operators

declare_torchvision_operators()
