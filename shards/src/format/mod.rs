//! Every byte we write.
