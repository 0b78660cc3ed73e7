"""The ports over real technology: one module or package each, none knows another."""
