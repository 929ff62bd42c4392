"""What a person gives becomes what the network takes: words today, poses, depth and masks to come."""
