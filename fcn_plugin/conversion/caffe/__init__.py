"""Caffe's descriptions of networks (.prototxt), read as the skip-fusion networks they are."""
