"""The parts of the page Rate: choosing a queue, the screen of two answers or one, the bar of keys, the end."""
