"""From the head downwards: the input of layer after layer, by linear equations, then the clip behind them."""
