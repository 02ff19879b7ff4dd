export interface Guest {
  name: string;
}

export function greet({ name }: Guest, greeting = 'hello'): string {
  return `${greeting}, ${name}\n`;
}
