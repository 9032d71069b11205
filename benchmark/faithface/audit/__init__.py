"""The audit of metrics: does a metric order maps whose quality is known, and does it detect planted faults?

Place in the flow: behind ``faithface audit``; may call ``run`` (choice of samples, suites), ``plugins``, ``metrics``,
``perturb``, ``model`` and the contract.

``damage`` explainers with a known fault · ``exam`` scores them with every metric · ``evidence`` what the values show
· ``verdict`` what follows · ``record`` what is stored · ``page`` the record as Markdown and a figure · ``audit`` all of
it, from worlds to verdicts · ``join`` several audits as one.
"""
