"""Does the stabilizer help? Quadratics, single boxes and a small detector, each over many learning rates.

- `toy`: quadratics and Rosenbrock; `boxes`: boxes of 4 to 256 px under one learning rate; `detector`: synthetic scenes;
- `cost`: what the stabilizer adds to a training step;
- `report`: the table and the figure in `experiments/results` from what these wrote.
"""
