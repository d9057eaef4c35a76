"""The kinds of input, by name."""

from fuzz.annotations import JSON
from fuzz.batch_lists import BATCHES
from fuzz.configurations import YAML
from fuzz.http_requests import REQUESTS
from fuzz.pictures import IMAGES
from fuzz.weights import WEIGHTS

KINDS = {"weights": WEIGHTS, "yaml": YAML, "json": JSON, "images": IMAGES, "requests": REQUESTS, "batches": BATCHES}
