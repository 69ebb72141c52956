"""Peers: gossip, requests, blobs, and who is trusted with them (protocol 8)."""
