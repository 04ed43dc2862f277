//! The process's life as a typestate, its pure twin, and the driver.
