"""The demo: what a bare daemon gives its caller, and beside it what Orchestra makes of that.

    recorded    exchanges recorded from a running daemon, and a socket that gives them again
    stage       where it is shown: two panels side by side, one under the other, or plain lines in a pipe
    world       what a scene finds: a daemon or the stand-in, a data folder that is not the user's
    scenes      a loop, a dialogue that outgrows its window, kill -9 in mid-answer
    thread      one question and one task through the whole house, live
    show        the order of it all, what it comes to, and the exit code

Each scene checks what it shows, in the run that shows it: a promise that does not hold ends the demo with 1.
"""
