"""How Pocket is made, from the data to the committed weights; nothing else imports this package."""
