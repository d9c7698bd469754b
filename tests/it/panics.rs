//! A bug in one leg or one reply costs nobody else anything.
