#!/usr/bin/env python3
"""Checks what no schema says of the Kubernetes manifests as kustomize renders them: manifests.py FILE"""
import sys

import yaml

GRACE_PERIOD_SECONDS = 10

with open(sys.argv[1], encoding="utf-8") as file:
    manifests = list(yaml.safe_load_all(file))


def only(kind):
    """The one manifest of this kind."""
    (manifest,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return manifest


assert not [manifest for manifest in manifests if manifest["kind"] == "Secret"], "a token stands in a file"
deployment = only("Deployment")["spec"]
pod = deployment["template"]["spec"]
(container,) = pod["containers"]
labels = deployment["selector"]["matchLabels"]

assert pod["enableServiceLinks"] is False
pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
assert pod["terminationGracePeriodSeconds"] > pause + GRACE_PERIOD_SECONDS
for spread in pod["topologySpreadConstraints"]:
    assert spread["labelSelector"]["matchLabels"] == labels, spread
assert {spread["topologyKey"] for spread in pod["topologySpreadConstraints"]} >= {"kubernetes.io/hostname"}

budget = only("PodDisruptionBudget")["spec"]
assert budget["selector"]["matchLabels"] == labels
assert 0 < budget["maxUnavailable"] < deployment["replicas"]

# The name has a hash of the content, and so a change rolls the pods.
config = only("ConfigMap")["metadata"]["name"]
assert config.startswith("red-tentacle-") and config != "red-tentacle"
assert container["envFrom"] == [{"configMapRef": {"name": config}}]
print("manifests: spread, budgeted, without a token; the ConfigMap rolls the pods")
