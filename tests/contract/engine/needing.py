"""Marks a test with the features that it is about: see conftest.py."""


def needs(*features):
    def mark(test):
        test.needs = frozenset(features)
        return test

    return mark
