"""The stages of a job, on Ray: read and encode, train, sample, evaluate.

Ray is imported in this folder and nowhere else. The design first laid these files beside the core;
they have a folder of their own so that the tree shows where Ray is, and so that `raysynth.train`
can be the function a user calls and not a module of the same name.
"""

import logging
import os

# What Ray may say: as much as the user set its logger to, else errors. Asked before Ray is
# imported, since that sets the logger to INFO.
SAYS = logging.getLogger("ray").level or logging.ERROR

# Ray reads these once, when it is imported. No usage report leaves a machine that holds personal
# data, and a cluster answers to its token only.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")
# How soon the end of a training is noticed; Ray's own 2 s are long for a laptop's table.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
# Training is what a cluster of our own is there for: with Ray's niceness of 15, anything else on
# the machine takes cores away in the middle of a matrix product.
os.environ.setdefault("RAY_worker_niceness", "0")
# A thread that waits for another spins briefly, then sleeps. Spinning for long, as libgomp does
# when left alone, made a training step several times as long on two cores with one of them busy; on
# idle cores this count cost nothing that could be measured.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# What Serve's proxies run around a request, so that its answer is sent no faster than it is read.
os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "raysynth.stages.serve:pacing")
