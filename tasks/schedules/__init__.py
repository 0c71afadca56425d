"""What schedules keep on the disk: whose turn a dataset's retraining is, who wants one more, how many runs were made."""
