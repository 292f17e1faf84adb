"""What `jobs/benchmark.py` runs.

    peers.py       the command that compares us with the reference implementation of CTGAN
    speed.py       its timing half: what is run, in which order, which figures come of it
    quality.py     its judging half: both sides train, draw, and are judged by `raysynth.judge`
    scale.py       the command that measures reading and encoding over more and more rows
    streaming.py   its tasks: tiling, our stages on Ray, the same by pyarrow alone
    paper.py       the command that repeats the benchmark of the CTGAN paper, cell by cell
    mixtures.py    its Gaussian mixtures; bayes.py its Bayesian networks: rows and likelihoods
    efficacy.py    its real tables, and what models learn from rows made like theirs
    published.py   the paper's own figures, beside ours
    parity_metrics.py     the command that holds our figures beside SDMetrics' and synthcity's
    peer_metrics.py       its tasks in their environment, the only file that imports them
    parity_anonymeter.py  the command that holds our attacks beside Anonymeter's
    peer_anonymeter.py    its tasks in Anonymeter's environment, the only file that imports it
    sdgym.py       the command that runs our families and SDV's in SDGym
    peer_sdgym.py  its tasks in SDGym's environment, the only file that imports it
    serving.py     the command that measures what HTTP costs, and what many clients get
    processes.py   CPU and memory of all the processes below one
    training.py    the command that measures training, by batch and by workers
    workers.py     its tasks: worker processes with gloo or NCCL, without Ray
    approach.py    its other half: seconds until our rows are as faithful as a reference's
    peer_mostly.py tasks in MOSTLY AI's environment, the only file that imports its engine
    cost.py        the command that reckons what a billion rows take, and checks its formulas
    counting.py    its tasks: bytes, operations, files and requests, counted
    figures.py     spreads, ratios, and the tables on the terminal
    sides.py       the two environments and the fresh process of each measurement
    measure.py     what every measuring process shares: clocks, peak memory, the way in and out
    ours.py        tasks run in our environment
    peer_ctgan.py  tasks run in the peer's environment, the only file that imports the peer
    limits.py      how fast the machine multiplies matrices, and moves memory

The peer's licence (BUSL) lets us measure it and no more: it is installed into an environment of its
own under `.benchmark/` and runs in processes of its own.
"""
