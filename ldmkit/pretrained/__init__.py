"""Networks that others trained: their weights in files, read and never downloaded, and packages that bring them."""
