"""`jaxfdsl report`: one HTML file about one or several runs, read from what they left."""
