"""What the APIs' documents are made of, and the page that shows them."""
