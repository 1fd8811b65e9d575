//! The Lunette server: sockets, threads, the configuration store and the commands
