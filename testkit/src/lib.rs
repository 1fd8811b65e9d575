//! Scripted peers, virtual time, faulty links and stores
