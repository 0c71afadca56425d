"""Datasets: importing, DVC, the stages that make and split them."""
