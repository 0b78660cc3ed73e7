"""The ports over real technology: one file each, none knows another."""
