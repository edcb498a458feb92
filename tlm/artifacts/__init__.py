"""What has been made: steps and their keys, the store and its records, and the catalogue that shows them."""
