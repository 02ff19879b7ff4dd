export function greet(greeting = 'hello', name = 'world'): string {
  return `${greeting}, ${name}`;
}
