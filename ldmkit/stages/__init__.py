"""The stages that tasks chain: each is addressed by what determines it, made once, and found again in the store."""
