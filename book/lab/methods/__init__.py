"""What is compared: the methods, their settings, and their exact quality."""
