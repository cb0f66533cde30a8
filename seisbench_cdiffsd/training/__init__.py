"""Training: :py:func:`.trainer.train` on the datasets that its settings name, or :py:func:`.trainer.fit` on others."""
