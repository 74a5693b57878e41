"""Answers to requests that are plainly valid, from the body to the bytes that are sent (ADR 13)."""
