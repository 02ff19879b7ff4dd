//! Says that it is there, every few seconds: gilliam config INTERVAL=1 changes how often.
const std = @import("std");

extern fn getenv([*:0]const u8) ?[*:0]const u8;
extern fn sleep(c_uint) c_uint;

pub fn main() void {
    const interval = if (getenv("INTERVAL")) |text| std.mem.span(text) else "5";
    const seconds = std.fmt.parseInt(c_uint, interval, 10) catch 5;
    var count: u64 = 1;
    while (true) : (count += 1) {
        std.debug.print("tick {d}\n", .{count});
        _ = sleep(@max(seconds, 1));
    }
}
