"""Answers on their way to the disk and back: packed where they are given, framed, closed, found again."""
