"""Who is in the swarm and alive, by gossip: SWIM with Lifeguard, told by one node to the next.

    shell.Gossip     the socket and the ticker; what the daemon uses
    codec.Codec      messages to sealed datagrams and back
    core.swim.Swim   the member as a state machine; beside it the parts it is made of
    simulator        a whole swarm in virtual time, for tests and benchmarks

A verdict here is a hint: ``suspect`` means place and route nothing there, ``dead`` means ask once more
yourself, then replace.  Nothing but liveness and a few bytes of meta travels this way.
"""
