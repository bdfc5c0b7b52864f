"""The learning rate where the loss falls fastest: a range test on the model, and how its curve is read."""
