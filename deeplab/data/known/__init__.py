"""Known datasets: what they consist of, where that is published, and how it is fetched, checked and unpacked."""
