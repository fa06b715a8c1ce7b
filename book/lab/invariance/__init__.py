"""What a factor on the loss does to each rule."""
