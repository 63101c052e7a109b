"""What every run needs: start-up, strict configs, safe checkpoints, optimizers, precision, the runner."""
