"""The one way to run the network for prediction."""
