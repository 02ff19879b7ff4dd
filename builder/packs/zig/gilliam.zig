//! HTTP for processes in Zig: `@import("gilliam")`. A program that calls `gilliam.serve(handle)` at its top level, and has no
//! `main`, answers requests.
//!
//! The handler is called once per request, each time in a fresh instance: globals do not survive it. What is read of a request
//! lives until the handler returns.

const std = @import("std");

const c = struct {
    extern fn gilliam_method(*Request) [*:0]const u8;
    extern fn gilliam_path(*Request) [*:0]const u8;
    extern fn gilliam_query(*Request) [*:0]const u8;
    extern fn gilliam_header(*Request, [*:0]const u8) ?[*:0]const u8;
    extern fn gilliam_read(*Request, [*]u8, usize) c_long;
    extern fn gilliam_status(*Response, c_int) void;
    extern fn gilliam_set_header(*Response, [*:0]const u8, [*:0]const u8) c_int;
    extern fn gilliam_write(*Response, [*]const u8, usize) c_int;
    extern fn gilliam_flush(*Response) c_int;
    extern fn getenv([*:0]const u8) ?[*:0]const u8;
};

/// A variable of the configuration.
pub fn env(name: [*:0]const u8) ?[]const u8 {
    return std.mem.span(c.getenv(name) orelse return null);
}

pub const Request = opaque {
    /// "GET", "POST" and so on.
    pub fn method(self: *Request) []const u8 {
        return std.mem.span(c.gilliam_method(self));
    }
    /// "/a/b", without the query.
    pub fn path(self: *Request) []const u8 {
        return std.mem.span(c.gilliam_path(self));
    }
    /// What follows "?"; empty without one.
    pub fn query(self: *Request) []const u8 {
        return std.mem.span(c.gilliam_query(self));
    }
    /// The first value of a header, in whatever case its name is written.
    pub fn header(self: *Request, name: [*:0]const u8) ?[]const u8 {
        return std.mem.span(c.gilliam_header(self, name) orelse return null);
    }
    /// Reads a part of the body as it comes; empty at its end.
    pub fn read(self: *Request, buffer: []u8) error{BodyBroken}![]u8 {
        const count = c.gilliam_read(self, buffer.ptr, buffer.len);
        if (count < 0) return error.BodyBroken;
        return buffer[0..@intCast(count)];
    }
};

pub const Response = opaque {
    /// The status; 200 at first. Without effect once the answer has begun.
    pub fn status(self: *Response, code: u16) void {
        c.gilliam_status(self, code);
    }
    /// Adds a header.
    pub fn setHeader(self: *Response, name: [*:0]const u8, value: [*:0]const u8) error{HeaderRefused}!void {
        if (c.gilliam_set_header(self, name, value) != 0) return error.HeaderRefused;
    }
    /// Writes a part of the body. A body beyond 16 KiB is sent as it is written.
    pub fn write(self: *Response, bytes: []const u8) error{ClientGone}!void {
        if (c.gilliam_write(self, bytes.ptr, bytes.len) != 0) return error.ClientGone;
    }
    /// The same, formatted; at most 4 KiB at a time.
    pub fn print(self: *Response, comptime format: []const u8, arguments: anytype) !void {
        var buffer: [4096]u8 = undefined;
        try self.write(try std.fmt.bufPrint(&buffer, format, arguments));
    }
    /// Sends what was written so far.
    pub fn flush(self: *Response) error{ClientGone}!void {
        if (c.gilliam_flush(self) != 0) return error.ClientGone;
    }
};

/// Has `handle` answer requests; an error of it is printed and answered with 500, where nothing was sent before.
pub fn serve(comptime handle: fn (*Request, *Response) anyerror!void) void {
    const exported = struct {
        fn gilliam_handle(request: *Request, response: *Response) callconv(.c) void {
            handle(request, response) catch |failure| {
                std.debug.print("error: {s}\n", .{@errorName(failure)});
                response.status(500);
            };
        }
    };
    @export(&exported.gilliam_handle, .{ .name = "gilliam_handle" });
}
